"""What an operator does to events after the fact: try again, run anew, end."""
