"""Pages: what data hold, what a run did."""
