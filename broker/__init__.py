"""The wire: topics, frames, presence, the link to a broker, and a broker for one machine."""
