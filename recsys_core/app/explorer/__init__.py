"""The explorer: films rated by hand, lists of several models side by side, and what speaks for each film of them."""
