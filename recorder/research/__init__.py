"""Tables for people: loaders and what is computed from them."""
