# Debian's servers in the place of images from registries. ROLE is the name of the image that this one stands for.
FROM localhost/cinemeter-stand-in:base
ARG ROLE
ARG RUN_AS
ENV STAND_IN=$ROLE PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN mkdir -p /prometheus && chown nobody /prometheus
COPY rclone stand_in.py /usr/local/bin/
USER $RUN_AS
ENTRYPOINT ["python3", "/usr/local/bin/stand_in.py"]
