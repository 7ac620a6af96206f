"""3D face models."""
