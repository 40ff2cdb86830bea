"""Schema migrations, carried by the wheel and applied at start."""
