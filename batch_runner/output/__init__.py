"""Sheet + outcomes → the file, checked and swapped in."""
