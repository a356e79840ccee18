"""python -m clip_vae_lora COMMAND: the same as `cvl COMMAND`."""

import sys

from .headless.cvl import main

if __name__ == "__main__":
    sys.exit(main())
