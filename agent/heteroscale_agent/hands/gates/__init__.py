"""Gates keep traffic from an instance, or let it in; one file for each kind."""
