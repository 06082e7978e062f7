"""The plugin for Drukwerkdeal.nl, on the Printdeal API."""
