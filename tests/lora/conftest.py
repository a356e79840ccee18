"""Makes `layouts` of this folder importable by name, without touching sys.path."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("lora_layouts", Path(__file__).with_name("layouts.py"))
_module = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("lora_layouts", _module)
_spec.loader.exec_module(_module)
