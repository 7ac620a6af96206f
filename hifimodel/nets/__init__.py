"""The networks of HiFi-Portrait, and how they are loaded."""
