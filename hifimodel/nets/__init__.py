"""The networks of HiFi-Portrait and their loading."""
