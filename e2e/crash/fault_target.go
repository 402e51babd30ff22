package main

// targetFaults are troubles of targets.
var targetFaults []Fault
