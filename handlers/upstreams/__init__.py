"""What plugins for print vendors share: reading answers, orders in neutral form, and the base of their stand-ins."""
