"""The parts of the story that `pipeline` tells: each sees the rooms it needs, and none of them sees `pipeline`."""
