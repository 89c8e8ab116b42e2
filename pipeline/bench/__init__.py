"""What takes hours and is stored: searches of settings, tolerances of arithmetic, timings, other libraries side by side."""
