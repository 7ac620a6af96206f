"""hifidata: names, URLs or folders of photos in, identity-grouped portrait datasets out."""
