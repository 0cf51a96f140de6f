"""Records: reading, cleaning, splitting, encoding and packing them."""
