#!/bin/sh
# On a PC with this repository: exports the graphs, stores PyTorch's results, and packs one folder for the Jetson.
#   examples/jetson/on_pc.sh PHOTO FOLDER
set -eu
test $# -eq 2 || { echo "usage: $0 PHOTO FOLDER" >&2; exit 2; }
test -f "$1" || { echo "error: there is no photo $1" >&2; exit 2; }
here=$(dirname "$0")
photo=$1
folder=$2
mkdir -p "$folder"

deeplens export onnx --variant edge --out "$folder/artifacts"
deeplens export onnx --variant edge --precision fp16 --out "$folder/artifacts"
deeplens export onnx --variant edge --whole 2048x1536 --precision fp16 --out "$folder/artifacts"
deeplens parity --runtime onnx --artifacts "$folder/artifacts" --photo "$photo" --collect "$folder/here"
make -C "$here/../.." dist

cp "$photo" "$folder/photo.${photo##*.}"
cp "$here"/../../dist/deeplens_edge-*.whl "$here/on_jetson.sh" "$folder"
echo "copy $folder to the Jetson, and run on_jetson.sh there"
