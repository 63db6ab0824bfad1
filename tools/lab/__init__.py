"""A Kubernetes-shaped node on one machine, for the demo and the tests.

Pods are network namespaces with an IP of their own, routed (not bridged) through
the network namespace of the node; ClusterIPs are nftables DNAT as kube-proxy's
nftables mode makes it; processes run in kubelet-shaped cgroups; Services,
EndpointSlices, Pods and Namespaces are YAML manifests in a directory. Everything
of a lab lives below one cgroup and one folder of /run/weirlab, so that it can be
torn down whole, whatever happened to the process that made it.
"""
