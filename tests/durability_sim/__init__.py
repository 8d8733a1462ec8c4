"""Years of a network of holders whose disks die and whose owners leave, on the placement that the product uses."""
