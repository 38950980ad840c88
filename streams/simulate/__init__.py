"""A simulated hub, the faults of its data, and the truth about every parcel."""
