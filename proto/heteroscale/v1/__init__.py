"""Version 1 of the wire. The modules are generated from the .proto files beside this one."""
