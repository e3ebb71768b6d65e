"""What runs on a device: gathers the vectors of its sources, runs its partition, publishes the outcome."""
