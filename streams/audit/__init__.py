"""Independent checks of what the processors wrote: verify, reconcile, and lookups in the topics."""
