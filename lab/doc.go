// Package lab asks how good it is: each folder measures one part. Nothing here serves requests.
package lab
