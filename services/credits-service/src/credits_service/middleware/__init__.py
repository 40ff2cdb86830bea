"""This service's policy over the kit's mechanisms."""
