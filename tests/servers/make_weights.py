"""Give the folder that tests/vllm/make_tiny_model.py wrote random weights, for a server that cannot make them up itself, and no end token.

python tests/servers/make_weights.py FOLDER         (needs torch and transformers)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Write model.safetensors; equal figures each time. An answer ends at the length that was asked for."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config).to(torch.float32).save_pretrained(folder)
    path = folder / "generation_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in said.items() if key != "eos_token_id"}, indent=1))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
