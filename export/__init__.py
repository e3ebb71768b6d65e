"""From a specification and data to a bundle: train with simulated failures, cut, export, verify."""
