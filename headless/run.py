"""python headless/run.py WORKFLOW.json [--set node.input=value ...] [--server http://127.0.0.1:8188]

Runs a workflow without a browser; `--help` tells the rest. The work is in command.py.
"""

import sys

if __package__:
    from .command import main
else:
    import checkout

    checkout.bind()
    sys.path.pop(0)  # this folder, whose `server` and `graph` are not for others to import
    from clip_vae_lora.headless.command import main

if __name__ == "__main__":
    sys.exit(main())
