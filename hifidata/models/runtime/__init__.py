"""Inference with ONNX Runtime and transformers, and the selection of the device."""
