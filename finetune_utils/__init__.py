"""Helpers of the fine-tuning course: each module does one job and says which in its first line."""

import logging

__version__ = "0.1.0"

# peft imports bitsandbytes, which then looks for a faster kernel on the hub and warns that there is none. The kernel it
# falls back to is right.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
