"""The rules of the domain a second time, in slow and plain Python: the oracle of tests, checks and the simulator."""
