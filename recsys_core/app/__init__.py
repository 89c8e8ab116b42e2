"""What a person opens: film recommendations on the command line and in a menu."""
