"""From a photo to the faces that the networks see."""
