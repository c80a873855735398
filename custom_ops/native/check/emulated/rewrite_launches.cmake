# CUDA source in, C++ out: kernel<<<grid, block, shared, stream>>>(...) becomes emulated::on(grid, block, shared, stream)(kernel, ...).
#
#   cmake -DFROM=launch.cu -DTO=launch.cpp -P rewrite_launches.cmake
file(READ ${FROM} source)
string(REGEX REPLACE "([A-Za-z_][A-Za-z_0-9]*(<[^<>]*>)?)<<<([^>]*)>>>\\(" "emulated::on(\\3)(\\1, " source "${source}")
if(source MATCHES "<<<")
  message(FATAL_ERROR "${FROM} has a launch that this does not rewrite")
endif()
file(WRITE ${TO} "#line 1 \"${FROM}\"\n${source}")
