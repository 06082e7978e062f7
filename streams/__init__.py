"""The movement: capture, brokers, engine, agents, projector loop, web and command line. Holds no business rules."""
