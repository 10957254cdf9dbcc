"""Services as objects of Kubernetes: what their definition says, who owns a name, what is told back.

The kind is ``ScaledService`` of the group ``heteroscale.io``: ``Service`` would be read as
Kubernetes' own by people and by ``kubectl get service``.
"""
