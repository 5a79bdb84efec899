#!/bin/sh
# On a Jetson with JetPack 6, in the folder that on_pc.sh packed: from a bare system to latency.md.
#   sh on_jetson.sh             all parts
#   sh on_jetson.sh measure     one part: install, build, refocus, check or measure
set -eu
cd "$(dirname "$0")"

install() {
    sudo apt-get update
    sudo apt-get install -y nvidia-jetpack python3-venv
    python3 -m venv --system-site-packages deeplens-env # so that it sees JetPack's TensorRT
    . deeplens-env/bin/activate
    pip install "$(ls deeplens_edge-*.whl)[onnx]" onnx 'cuda-bindings>=12.6,<13' # the CUDA of JetPack 6 is 12
    python -c 'import tensorrt; print("TensorRT", tensorrt.__version__)'
}

build() {
    deeplens export trt --variant edge --target jetson-orin --dry-run
    deeplens export trt --variant edge --target jetson-orin
    deeplens export trt --variant edge --target jetson-orin --whole 2048x1536
}

refocus() {
    deeplens refocus photo.* --focus 0.5,0.5 --runtime trt -o out.jpg
}

check() { # copy the folder there back, and compare on the PC
    deeplens parity --runtime trt --precision fp16 --inputs here --collect there
}

measure() {
    sudo nvpmodel -m 0
    sudo jetson_clocks
    deeplens bench --runtime trt --loop device --loop host --item refocus --markdown loops.md --json loops.json
    deeplens bench --runtime trt --runtime onnx --loop host --markdown latency.md --json latency.json
    cat loops.md latency.md
}

parts=${*:-install build refocus check measure}
for part in $parts; do
    case $part in
        install | build | refocus | check | measure) ;;
        *) echo "error: unknown part $part: choose install, build, refocus, check or measure" >&2; exit 2 ;;
    esac
done
for part in $parts; do
    echo "== $part"
    case $part in install) ;; *) . deeplens-env/bin/activate ;; esac
    "$part"
done
