package main

// sourceFaults are troubles of the source.
var sourceFaults []Fault
