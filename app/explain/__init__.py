"""Deep Dream as an attribution: the dream, and how it is drawn."""
