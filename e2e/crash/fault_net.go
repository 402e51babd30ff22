package main

// netFaults are troubles of the network between two parts.
var netFaults []Fault
