"""How runs are run, kept and drawn: what every experiment shares beside the science."""
