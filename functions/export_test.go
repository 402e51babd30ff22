package functions

// Command is Main without the process around it.
var Command = command
