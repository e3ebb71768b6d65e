"""A fleet of virtual devices on one machine: each with its own address, disk, init and sshd, and a plug to pull."""
