package main

// natsFaults are troubles of JetStream itself.
var natsFaults []Fault
