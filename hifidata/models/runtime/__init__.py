"""How models are run: ONNX Runtime, its devices, transformers."""
