"""A simulated hub, its dirt, and the truth about every parcel of it."""
