"""The 933 test calls that edge911 places itself, per site and route, and what came of them."""
