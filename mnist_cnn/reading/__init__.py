"""Read the digits in pictures."""
