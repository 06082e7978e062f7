"""Order handlers that fit any vendor: a plugin's manifest gives them the vendor's part."""
